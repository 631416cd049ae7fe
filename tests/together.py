"""Two real processes on a CPU, as torchrun starts them."""

import multiprocessing
import os
import socket
import time

import torch

WORLD = 2
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["retrain.stage", "search.stage", "search.one_shot", "search.darts", "search.gumbel"])


def join(rank, port):
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(WORLD),
                   "LOCAL_WORLD_SIZE": str(WORLD), "GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"}
    torch.set_num_threads(1)


def together(target, argument, until=None):
    """Runs `target` in all processes; argument(rank) is the last of its arguments. Kills them once the file `until`
    exists. Returns their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [PROCESSES.Process(target=target, args=(rank, port, argument(rank)), daemon=True)
                 for rank in range(WORLD)]
    for process in processes:
        process.start()
    while until and not until.exists() and processes[0].is_alive():
        time.sleep(0.002)
    for process in processes:
        if until:
            process.kill()
        process.join(120)
    return [process.exitcode for process in processes]
