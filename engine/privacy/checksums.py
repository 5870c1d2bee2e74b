"""The checks that numbers of cards, accounts and persons carry; pure. All take bare digits (or letters and digits)."""

from collections.abc import Sequence
from typing import Final

_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
_DNI: Final = "TRWAGMYFPDXBNJZSQVHLCKE"
# Verhoeff: multiplication in the dihedral group of order ten, and the powers of its permutation.
_TIMES: Final = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    (1, 2, 3, 4, 0, 6, 7, 8, 9, 5),
    (2, 3, 4, 0, 1, 7, 8, 9, 5, 6),
    (3, 4, 0, 1, 2, 8, 9, 5, 6, 7),
    (4, 0, 1, 2, 3, 9, 5, 6, 7, 8),
    (5, 9, 8, 7, 6, 0, 4, 3, 2, 1),
    (6, 5, 9, 8, 7, 1, 0, 4, 3, 2),
    (7, 6, 5, 9, 8, 2, 1, 0, 4, 3),
    (8, 7, 6, 5, 9, 3, 2, 1, 0, 4),
    (9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
)
_STEP: Final = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def is_luhn(digits: str) -> bool:
    """Whether the last digit is right by Luhn: cards, Canadian social insurance numbers."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        total += _DOUBLED[int(digit)] if place % 2 else int(digit)
    return total % 10 == 0


def is_mod_97(account: str) -> bool:
    """Whether an IBAN without spaces, in capitals, is right: moved by four and read in base 36, 1 modulo 97."""
    return int("".join(str(int(char, 36)) for char in account[4:] + account[:4])) % 97 == 1


def is_verhoeff(digits: str) -> bool:
    """Whether the last digit is right by Verhoeff: Indian Aadhaar numbers."""
    check, power = 0, list(range(10))
    for digit in reversed(digits):
        check = _TIMES[check][power[int(digit)]]
        power = [_STEP[place] for place in power]
    return check == 0


def is_cpf(digits: str) -> bool:
    """Whether both check digits of a Brazilian CPF are right."""
    return _cpf_digit(digits[:9]) == int(digits[9]) and _cpf_digit(digits[:10]) == int(digits[10])


def _cpf_digit(digits: str) -> int:
    rest = _weighted(digits, range(len(digits) + 1, 1, -1)) % 11
    return 0 if rest < 2 else 11 - rest


def is_nhs(digits: str) -> bool:
    """Whether the last digit of an NHS number (England) is right."""
    return (11 - _weighted(digits[:9], range(10, 1, -1)) % 11) % 11 == int(digits[9])


def is_nir(digits: str) -> bool:
    """Whether the key of a French NIR, thirteen digits and two, is right."""
    return 97 - int(digits[:13]) % 97 == int(digits[13:])


def is_dni(code: str) -> bool:
    """Whether the letter of a Spanish DNI (eight digits) or NIE (X, Y or Z and seven) is right; in capitals."""
    number = code[:-1].translate(str.maketrans("XYZ", "012"))
    return _DNI[int(number) % 23] == code[-1]


def _weighted(digits: str, weights: Sequence[int]) -> int:
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=True))
