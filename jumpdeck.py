"""Lets `python -m jumpdeck` stand for the command `jumpdeck`, also where launchers are denied."""

from app.__main__ import main

if __name__ == "__main__":
    main()
