"""`python -m ringfence`: the console script where there is none."""

from ringfence.faces.cli import main

if __name__ == "__main__":
    main()
