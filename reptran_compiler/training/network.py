"""A network of torch modules with the graph of an ONNX file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onnx import ModelProto
from torch import Tensor, nn

from reptran_compiler.training.holding import Holding

#: A module that holds nothing.
_MODULE = nn.Module()


def escape(name: str) -> str:
    """An ONNX name as the name of a module: "%" as "%25", "." as "%2E", which torch forbids.

    A "%" is added to the empty name, and to those that a module has for its own, such as "type".
    """
    escaped = name.replace("%", "%25").replace(".", "%2E")
    return f"{escaped}%" if not escaped or hasattr(_MODULE, escaped) else escaped


def unescape(name: str) -> str:
    """The ONNX name that `escape` made a name of a module from."""
    return name.removesuffix("%").replace("%2E", ".").replace("%25", "%")


@dataclass(frozen=True)
class Step:
    """A module that runs.

    Attributes:
        name: the ONNX name of the node that it stands for, the first one where it stands for several.
        inputs, outputs: the ONNX names of the tensors.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Blueprint:
    """What a network was read from.

    Attributes:
        model: the file's model, in the form that is trained.
        operands: the ONNX name of each parameter, by the index of the node that reads it and by the input's position.
    """

    model: ModelProto
    operands: Mapping[tuple[int, int], str] = field(default_factory=dict)


class Network(nn.Module):
    """A network that runs modules in the order of an ONNX graph.

    `print` shows it as a program, a module a line.  The keys of `state_dict` are ONNX names of tensors, as they are in
    the file; statistics that were folded in the file have names of their own (`norms.FoldedNorm`).  Modules are found
    by the names of their nodes: `network.module(name)`, or as attributes of `network.nodes`, escaped by `escape`.

    Attributes:
        steps: the modules in the order in which they run.
        inputs, outputs: the names of the graph's inputs and outputs.
        nodes: the modules.
        blueprint: what it was read from; `to_onnx` writes with its help.
        as_read: whether its parameters are still those of the blueprint; not once it ran in training mode, a gradient
            went through it, it was calibrated, or was given a state.
    """

    def __init__(
        self,
        modules: Sequence[tuple[Step, nn.Module]],
        inputs: Sequence[str],
        outputs: Sequence[str],
        constants: Mapping[str, Tensor],
        blueprint: Blueprint,
    ) -> None:
        super().__init__()
        self.steps = tuple(step for step, _ in modules)
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.blueprint = blueprint
        self.as_read = True
        self.nodes = nn.Module()
        for step, module in modules:
            assert escape(step.name) not in self.nodes._modules, f"two modules are called {step.name!r}"
            self.nodes.add_module(escape(step.name), module)
        self.constants = nn.Module()
        self._held = {name: escape(name) for name in constants}
        for name, value in constants.items():
            self.constants.register_buffer(escape(name), value, persistent=False)
        last = {name: place for place, step in enumerate(self.steps) for name in step.inputs}
        self._done = [
            tuple(name for name in dict.fromkeys(step.inputs) if last[name] == place and name not in self.outputs)
            for place, step in enumerate(self.steps)
        ]
        self.register_state_dict_post_hook(_to_onnx_names)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_from_onnx_names)  # type: ignore[no-untyped-call]

    def module(self, name: str) -> nn.Module:
        """The module of a node, by the node's ONNX name.

        Raises:
            KeyError: no module stands for such a node by its own name.
        """
        found = self.nodes._modules.get(escape(name))
        if found is None:
            raise KeyError(f"there is no module {name!r}")
        return found

    def forward(self, *inputs: Tensor) -> Any:
        """Run it.

        Args:
            inputs: the graph's inputs, in order.

        Returns:
            The graph's output; a tuple where it has several.

        Raises:
            ValueError: there are too few inputs, or too many.
        """
        if len(inputs) != len(self.inputs):
            raise ValueError(f"{len(inputs)} inputs for {', '.join(self.inputs)}")
        self.as_read = self.as_read and not self.training
        values: dict[str, Any] = dict(zip(self.inputs, inputs, strict=True))
        for place in range(len(self.steps)):
            self.run_step(place, values)
            for name in self.done(place):
                values.pop(name, None)
        made = tuple(self._value(name, values) for name in self.outputs)
        for each in made if self.as_read else ():
            if each.requires_grad:
                each.register_hook(self._learn)
        return made[0] if len(made) == 1 else made

    def _learn(self, _: Tensor) -> None:
        self.as_read = False

    def read(self, place: int, values: Mapping[str, Any]) -> list[Any]:
        """What one of its modules reads: `place` is which of `steps`, `values` the tensors by ONNX name."""
        return [self._value(name, values) for name in self.steps[place].inputs]

    def made(self, place: int, values: Mapping[str, Any]) -> Any:
        """What one of its modules makes; arguments as those of `read`."""
        return self.module(self.steps[place].name)(*self.read(place, values))

    def run_step(self, place: int, values: dict[str, Any]) -> None:
        """Run one of its modules, and add what it makes to the tensors; arguments as those of `read`."""
        made, outputs = self.made(place, values), self.steps[place].outputs
        made = (made,) if len(outputs) == 1 else made
        values.update((name, each) for name, each in zip(outputs, made, strict=True) if name)

    def done(self, place: int) -> tuple[str, ...]:
        """The tensors that nothing reads behind one of its modules."""
        return self._done[place]

    def _value(self, name: str, values: Mapping[str, Any]) -> Any:
        return values[name] if name in values else getattr(self.constants, self._held[name])

    def __repr__(self) -> str:
        lines = [f"Network({', '.join(self.inputs)} -> {', '.join(self.outputs)})"]
        for step in self.steps:
            shown = repr(self.module(step.name)).replace("\n", "\n    ")
            lines.append(f"  {', '.join(filter(None, step.outputs))} = {shown}({', '.join(step.inputs)})")
        return "\n".join(lines)

    def onnx_names(self) -> dict[str, str]:
        """The key of each parameter and buffer in `state_dict`, by torch's own name for it."""
        found: dict[str, str] = {}
        for path, module in self.named_modules():
            if isinstance(module, Holding):
                found |= {f"{path}.{mine}": name for mine, name in module.names.items()}
        return found


def _to_onnx_names(network: nn.Module, state: dict[str, Any], prefix: str, _: Any) -> None:
    """Rename the keys of a state that was gathered."""
    assert isinstance(network, Network)
    for mine, name in network.onnx_names().items():
        if prefix + mine in state:
            state[prefix + name] = state.pop(prefix + mine)


def _from_onnx_names(network: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Rename the keys of a state that is to be loaded."""
    assert isinstance(network, Network)
    network.as_read = False
    names = network.onnx_names()
    known = {prefix + name: state.pop(prefix + name) for name in set(names.values()) if prefix + name in state}
    state.update((prefix + mine, known[prefix + name]) for mine, name in names.items() if prefix + name in known)
