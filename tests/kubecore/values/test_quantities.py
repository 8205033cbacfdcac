from decimal import Decimal

import pytest

from kubecore.values.quantities import canonical_quantity, parse_quantity


@pytest.mark.parametrize(
    ("text", "value", "canonical"),
    [
        ("0", "0", "0"),
        ("1", "1", "1"),
        ("0.5", "0.5", "500m"),
        ("1000m", "1", "1"),
        ("1500m", "1.5", "1500m"),
        ("1000", "1000", "1k"),
        ("1024Ki", "1048576", "1Mi"),
        ("1.5Gi", "1610612736", "1536Mi"),
        ("64Mi", "67108864", "64Mi"),
        ("128974848", "128974848", "128974848"),
        ("129M", "129000000", "129M"),
        ("1e3", "1000", "1e3"),
        ("12E", "12000000000000000000", "12E"),
        ("-2", "-2", "-2"),
        (0.25, "0.25", "250m"),
        ("0.1n", "0.0000000001", "1n"),
    ],
)
def test_a_quantity_has_an_exact_value_and_one_way_to_write_it(text, value, canonical):
    assert parse_quantity(text) == Decimal(value)
    assert canonical_quantity(text) == canonical


@pytest.mark.parametrize("text", ["", "x", "1 Gi", "1gi", "--1", "1e999", "1" * 65, "NaN", "Inf"])
def test_what_is_no_quantity_is_refused(text):
    with pytest.raises(ValueError, match="quantities must match"):
        parse_quantity(text)
