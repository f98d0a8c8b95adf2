"""Front ends: model files to float graphs, pictures to pixels."""
