"""The architectures, by name: each module in this folder is one."""
import importlib
import pkgutil

ARCHITECTURES = {name: importlib.import_module(f"{__name__}.{name}").ARCHITECTURE
                 for _, name, _ in pkgutil.iter_modules(__path__)}
