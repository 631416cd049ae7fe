"""The report's figures in TensorBoard."""

import shutil
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from results.report import read_run, run_figures


def write_board(folder: Path) -> None:
    """Writes all figures of the run folder's report as images to its `tensorboard/report`, in place of earlier ones."""
    place = folder / "tensorboard" / "report"
    shutil.rmtree(place, ignore_errors=True)
    with SummaryWriter(str(place)) as board:
        for name, figure in run_figures(read_run(folder)).items():
            figure.set_dpi(150)
            board.add_figure(f"report/{name}", figure)
