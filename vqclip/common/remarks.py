"""Other libraries' remarks, which are not for the person at the screen."""

import warnings


def quiet_pillow() -> None:
    """Keep Pillow's warnings of odd files off stderr, in the whole process: what is wrong with a file, we say.

    Catching them where they come up is not safe while several threads read.
    """
    warnings.filterwarnings("ignore", module=r"PIL\b")
