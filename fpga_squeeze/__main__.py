"""`python -m fpga_squeeze` is the command line."""

from fpga_squeeze.cli import main

if __name__ == "__main__":
    main()
