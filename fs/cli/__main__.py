"""`python -m firepond.fs.cli`."""

from firepond.fs.cli import main

if __name__ == "__main__":
    main()
