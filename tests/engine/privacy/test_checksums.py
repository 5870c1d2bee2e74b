"""Check digits: published examples are right, and no single wrong digit passes."""

from collections.abc import Callable

import pytest

from engine.privacy import checksums

RIGHT: list[tuple[Callable[[str], bool], str]] = [
    (checksums.is_luhn, "4111111111111111"),
    (checksums.is_luhn, "046454286"),
    (checksums.is_mod_97, "GB82WEST12345698765432"),
    (checksums.is_verhoeff, "234123412346"),
    (checksums.is_cpf, "52998224725"),
    (checksums.is_nhs, "9434765919"),
    (checksums.is_nir, "255081416802538"),
    (checksums.is_dni, "12345678Z"),
    (checksums.is_dni, "X1234567L"),
]


@pytest.mark.parametrize(("check", "number"), RIGHT)
def test_examples_are_right_and_a_wrong_digit_is_not(check: Callable[[str], bool], number: str) -> None:
    assert check(number)
    for place, char in enumerate(number):
        if char.isdigit():
            wrong = str((int(char) + 1) % 10)
            assert not check(number[:place] + wrong + number[place + 1 :])


def test_an_nhs_number_whose_check_would_be_ten_is_none() -> None:
    assert not any(checksums.is_nhs(f"000000006{digit}") for digit in range(10))
