"""The catalogue: every kind of mistake, by theme."""

from __future__ import annotations

from tests.planted import attributes, file, interface, order, parameters, rules, rules_of_values, weights, wiring
from tests.planted.kinds import Kind, RuleKind, Theme

THEMES: tuple[Theme, ...] = (
    order.THEME,
    weights.THEME,
    parameters.THEME,
    attributes.THEME,
    wiring.THEME,
    interface.THEME,
    file.THEME,
    rules.THEME,
    rules_of_values.THEME,
)
KINDS: tuple[Kind | RuleKind, ...] = tuple(kind for theme in THEMES for kind in theme.kinds)
