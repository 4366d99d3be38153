"""Models written as one expression."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propagate.errors import InputError
from propagate.features.expression import Part, parse

names = st.from_regex(r"[a-z][a-z0-9/._@-]{0,20}", fullmatch=True)
weights = st.floats(0.01, 100).map(lambda value: round(value, 2))
options = st.fixed_dictionaries(
    {},
    optional={"t": st.integers(0, 999), "layer": st.from_regex(r"[a-z_.]+[0-9]", fullmatch=True)},
)


@given(st.lists(st.tuples(names, weights, options), min_size=1, max_size=4))
def test_what_is_written_is_read(parts):
    texts = []
    for name, weight, chosen in parts:
        inside = ",".join(f"{key}={value}" for key, value in chosen.items())
        texts.append(f"{name}{f'[{inside}]' if inside else ''}:{weight}")
    assert parse("+".join(texts)) == [Part(*part) for part in parts]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("sd21", [Part("sd21")]),
        ("sd21+dinov2-b", [Part("sd21"), Part("dinov2-b")]),
        ("sd21:2 + dinov2-b", [Part("sd21", 2.0), Part("dinov2-b")]),
        (
            "sd21[t=101,layer=up_blocks.1+up_blocks.2]:.5+owner/name@v1.0",
            [
                Part("sd21", 0.5, {"t": 101, "layer": "up_blocks.1+up_blocks.2"}),
                Part("owner/name@v1.0"),
            ],
        ),
        ("sd21[up-ft-index=1]", [Part("sd21", 1.0, {"up_ft_index": 1})]),
    ],
)
def test_examples(expression, expected):
    assert parse(expression) == expected


def test_a_folder_may_have_any_name(tmp_path):
    folder = tmp_path / "a+b[c]:2"
    folder.mkdir()
    assert parse(str(folder)) == [Part(str(folder))]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("sd21+", "'' in model 'sd21.' can't be read; write models as"),
        ("sd21[t=1", "can't be read"),
        ("sd21[t=1]]", "can't be read"),
        ("sd21:0", "has weight 0; it must be a number greater than 0"),
        ("sd21:1e999", "has weight 1e999; it must be"),
        ("sd21:-1", "has weight -1; it must be"),
        ("sd21[t]", "'t' in 'sd21.t.' is no option of a model; use t, up_ft_index"),
        ("sd21[colour=red]", "'colour=red' in .* is no option of a model"),
        ("sd21[t=many]", "t is 'many'; it must be a whole number"),
    ],
)
def test_what_can_not_be_read_is_said(expression, message):
    with pytest.raises(InputError, match=message):
        parse(expression)
