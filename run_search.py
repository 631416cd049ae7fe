"""Runs the stages of a configuration; with no argument the `quick` preset. The same as `giidnet run`."""

import sys

from giidnet import main

if __name__ == "__main__":
    main(["run", *sys.argv[1:]])
