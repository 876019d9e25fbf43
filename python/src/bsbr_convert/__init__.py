"""The converter of bsbr: weights of PyTorch into model files and back.

It needs NumPy; h5py for model files, and PyTorch for PyTorch's own files. Nothing of it needs the compiled library, so that it runs from a
checkout, too. `bsbr_hpc.convert` and `bsbr_hpc.Model.from_torch` are its interface in Python, `tools/convert_weights.py` on the command line.
"""
