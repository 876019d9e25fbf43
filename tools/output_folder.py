"""A folder for what a tool writes: all of it or nothing. Used by analyze_results.py and plot_training.py."""
import os
import shutil
import tempfile

from command_line import BAD_OUTPUT, Failure


def fill(folder, write_files):
    """Writes files into the folder, by way of a temporary one within it: what has a name is whole. -> their names.

    write_files(path) writes them; the folder is made if it is not there, and files of the same names are replaced.
    """
    made, temporary = None, None
    try:
        made = missing_folders(folder)
        os.makedirs(folder, exist_ok=True)
        temporary = tempfile.mkdtemp(prefix=".bsbr-", dir=folder)
        write_files(temporary)
        names = sorted(os.listdir(temporary))
        for name in names:
            if os.path.isdir(os.path.join(folder, name)):
                raise IsADirectoryError(0, f"{name} is a folder, must be a file or not there")
        for name in names:
            os.replace(os.path.join(temporary, name), os.path.join(folder, name))
        made = []
        return names
    except OSError as error:
        raise Failure(BAD_OUTPUT, f"{folder}: the output cannot be written: {error.strerror or error}") from None
    finally:
        if temporary:
            shutil.rmtree(temporary, ignore_errors=True)
        for path in made or []:
            if os.path.isdir(path) and not os.listdir(path):
                os.rmdir(path)


def missing_folders(folder):
    """The folders that makedirs will make, innermost first."""
    folder, missing = os.path.abspath(folder), []
    while not os.path.lexists(folder):
        missing.append(folder)
        folder = os.path.dirname(folder)
    return missing
