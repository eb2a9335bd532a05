"""Laying documents over another."""

from bts_auto.plan.merge import merge


def test_lists_are_replaced():
    assert merge({"a": [1, 2]}, {"a": [3]}) == {"a": [3]}


def test_the_same_component_keeps_its_options():
    below = {"network": {"name": "n", "options": {"a": 1, "b": 2}}}
    assert merge(below, {"network": {"name": "n", "options": {"a": 3}}})["network"]["options"] == {"a": 3, "b": 2}


def test_arguments_stay_as_they_were():
    base = {"a": {"b": 1}}
    merge(base, {"a": {"b": 2}})
    assert base == {"a": {"b": 1}}
