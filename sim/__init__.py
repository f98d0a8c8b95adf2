"""cocotb benches of the RTL and the helpers that build and run them."""
