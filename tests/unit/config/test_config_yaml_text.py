"""Consumes YAML texts, checks that they mean what a person reads: no surprises of YAML 1.1, no key twice."""

import math

import pytest
import yaml

from assay.config.yaml_text import parse_yaml, read_yaml
from assay.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"),
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("NA", "NA"),
        ("1e8", 1e8),
        ("1.0e+8", 1e8),
        ("-2.5", -2.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("010", 10),
        ("+3", 3),
        ("12:30", "12:30"),
        ("2015-06-30", "2015-06-30"),
        ("1_000", "1_000"),
        ("'5'", "5"),
        ("[a, 'no', 1]", ["a", "no", 1]),
        ("{on: 1}", {"on": 1}),
        ("{a: &x [1], b: *x}", {"a": [1], "b": [1]}),
    ],
)
def test_values(text, value):
    found = parse_yaml(text)
    assert found == value
    assert type(found) is type(value)


def test_the_numbers_that_are_none():
    assert math.isnan(parse_yaml(".nan"))
    assert parse_yaml("-.inf") == -math.inf


def test_merge_keys_may_be_overridden_but_no_key_may_come_twice():
    assert parse_yaml("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  x: 3")["b"] == {"x": 3, "y": 2}
    with pytest.raises(yaml.YAMLError, match="'x' comes twice"):
        parse_yaml("a: {x: 1, x: 2}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"# only a comment\n", "the file is empty"),
        (b"- a\n- b\n", "expected keys and values, found list"),
        (b"just words", "expected keys and values, found str"),
        (b"name: a\nname: b\n", "not valid YAML: key 'name' comes twice at line 2, column 1"),
        (b"name: [a\n", "not valid YAML: .*line 2"),
        (b"name: !!python/object:os.system x\n", "not valid YAML: could not determine a constructor"),
        ("name: São".encode("latin-1"), "cannot be read as UTF-8 text"),
        (b"name: a\x00b", "cannot be read as UTF-8 text: .*special characters"),
    ],
)
def test_a_file_that_is_no_configuration_gets_one_line(tmp_path, content, message):
    path = tmp_path / "données brutes.yml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_byte_order_mark_does_no_harm(tmp_path):
    path = tmp_path / "windows.yml"
    path.write_bytes(b"\xef\xbb\xbfname: a\r\n")
    assert read_yaml(path) == {"name": "a"}


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_yaml(tmp_path)
