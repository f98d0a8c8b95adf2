from pathlib import Path
from fpga_squeeze.load.source import Imported
def load_exported_program(path: Path, input_size: int | None) -> Imported: raise NotImplementedError
