from pathlib import Path
from fpga_squeeze.load.source import Imported
def load_torchscript(path: Path, input_size: int | None, default_size: int) -> Imported: raise NotImplementedError
