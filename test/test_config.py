"""Configuration: parsing, merging, and clear errors for invalid input."""

from dataclasses import dataclass

import pytest

from fluoro_reg.config import from_mapping, load_yaml, merged, option, parse_overrides, section, to_mapping, walk_options
from fluoro_reg.errors import InputError


@dataclass(frozen=True, slots=True)
class Inner:
    limit: float = option(0.5, "a limit", unit="mm", minimum=0.0, maximum=1.0)
    kind: str = option("a", "a kind", choices=("a", "b"))


@dataclass(frozen=True, slots=True)
class Outer:
    count: int = option(3, "a count", minimum=1)
    pair: tuple[float, float] = option((1.0, 2.0), "a pair")
    name: str | None = option(None, "a name")
    inner: Inner = section(Inner)


def test_dotted_and_nested_keys_are_equivalent():
    nested = from_mapping(Outer, {"inner": {"limit": 0.25, "kind": "b"}})
    assert nested == from_mapping(Outer, {"inner.limit": 0.25, "inner.kind": "b"})
    assert nested.inner == Inner(0.25, "b")


def test_every_value_survives_a_round_trip():
    config = from_mapping(Outer, {"count": 7, "pair": [3, 4], "name": "x", "inner.limit": 1})
    assert from_mapping(Outer, to_mapping(config)) == config


@pytest.mark.parametrize(
    ("mapping", "sentence"),
    [
        ({"cuont": 3}, "unknown key 'cuont'; did you mean 'count'"),
        ({"inner": {"limits": 0.1}}, "unknown key 'inner.limits'; did you mean 'inner.limit'"),
        ({"count": 0}, "'count' must lie in 1 to inf, got 0"),
        ({"count": True}, "'count' must be of type int"),
        ({"count": 1.5}, "'count' must be of type int"),
        ({"inner.limit": 1.5}, "'inner.limit' must lie in 0.0 to 1.0 mm"),
        ({"inner.limit": float("nan")}, "'inner.limit' must lie in"),
        ({"inner.kind": "c"}, "'inner.kind' must be one of a, b"),
        ({"pair": [1.0]}, "'pair' needs 2 values, got 1"),
        ({"pair": 1.0}, "'pair' must be a list"),
        ({"inner": 3}, "'inner' is a section"),
        ({"inner.limit.deeper": 3}, "'inner.limit' must be of type float"),
    ],
)
def test_the_error_for_an_invalid_value_names_the_key(mapping, sentence):
    with pytest.raises(InputError, match=sentence.replace("(", r"\(")):
        from_mapping(Outer, mapping)


def test_later_layers_take_precedence_key_by_key():
    layers = merged({"inner": {"limit": 0.1, "kind": "b"}}, {"inner.limit": 0.2}, parse_overrides(["count=5"]))
    assert layers == {"inner": {"limit": 0.2, "kind": "b"}, "count": 5}


def test_walk_options_yields_every_option_with_its_description():
    options = {o.name: o for o in walk_options(Outer)}
    assert list(options) == ["count", "pair", "name", "inner.limit", "inner.kind"]
    assert (options["inner.limit"].unit, options["inner.limit"].maximum, options["inner.limit"].default) == ("mm", 1.0, 0.5)


@pytest.mark.parametrize(("text", "sentence"), [("a: [1", "not valid YAML"), ("- 1\n- 2\n", "top level")])
def test_the_error_for_an_invalid_file_names_it(tmp_path, text, sentence):
    path = tmp_path / "options.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=f"options.yaml.*{sentence}"):
        load_yaml(path)


def test_an_override_without_a_value_is_rejected():
    with pytest.raises(InputError, match="key=value"):
        parse_overrides(["count"])


@pytest.mark.parametrize(
    "text", ["a: " + "1" * 5000, "a: 2001-99-99", "[" * 5000, "a: \xff"], ids=["digits", "date", "depth", "bytes"]
)
def test_yaml_that_python_refuses_is_one_sentence(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"mine\.yaml is not valid YAML; check its indentation and quotes"):
        load_yaml(path)


def test_a_whole_number_that_no_float_holds_is_one_sentence():
    with pytest.raises(InputError, match="is a whole number that is too large; give one below 1e308"):
        from_mapping(Inner, {"limit": 10**400}, "mine")
