"""``python -m alignprism``: the command line, where the ``alignprism`` script is not on the path."""

from alignprism.cli import main

main()
