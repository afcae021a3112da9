"""How many and how much, in words."""

from decimal import Decimal


def decimal(number: float) -> str:
    """Write a number exactly, without an exponent: `0.00001`, `2`."""
    return f"{Decimal(repr(number)):f}".removesuffix(".0")


def counted(number: int, noun: str) -> str:
    """Write `1 picture`, `2 pictures`; `noun` takes a plain s."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def memory(amount: int) -> str:
    """Write a number of bytes in the unit that reads well: `830 MiB`, `1.1 GiB`."""
    return f"{amount / 2**30:.1f} GiB" if amount >= 2**30 else f"{amount // 2**20} MiB"
