"""`python -m propagate`."""

from propagate.commands.main import main

main()
