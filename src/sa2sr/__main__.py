"""``python -m sa2sr`` is the command line; launchers of several processes need it."""

from sa2sr.cli import main

main()
