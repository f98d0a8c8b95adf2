"""Training and fine-tuning on folders of images: float or quantization-aware, on one process or many."""
