"""The `propagate` command from a checkout: `python cli.py run clip.mp4 first.png -o out/`."""

from propagate.commands.main import main

if __name__ == "__main__":
    main()
