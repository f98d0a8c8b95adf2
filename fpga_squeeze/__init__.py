"""fpga-squeeze: a trained SqueezeNet becomes a fixed-point accelerator that lives wholly on an FPGA."""

__version__ = "0.1.0"
