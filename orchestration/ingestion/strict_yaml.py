"""YAML without its surprises: no aliases, no duplicate keys, no oversized files.

`yaml.safe_load` keeps the last of two equal keys (`consent: required`, then `consent: ignored`) and expands alias
bombs; a mapping file that means two things is refused instead. Belongs here: reading only, no meaning.
"""

from pathlib import Path
from typing import Any, ClassVar

import yaml

MAX_BYTES = 5_000_000


class StrictYamlError(ValueError):
    """A YAML file that cannot be read, or means more than one thing; the message names file, line and mend."""


class _StrictLoader(yaml.SafeLoader):
    # YAML 1.1 reads on, off, yes and no as booleans; the country NO and a join's `on` are texts, as YAML 1.2 has it.
    yaml_implicit_resolvers: ClassVar = {
        letter: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool" or letter in "tTfF"]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise StrictYamlError(f"line {event.start_mark.line + 1}: aliases are not allowed; write the value out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise StrictYamlError(
                    f"line {key_node.start_mark.line + 1}: the key {key!r} stands twice; keep one of them"
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_yaml(path: Path) -> Any:
    """The file's content as plain Python values; `StrictYamlError` on anything doubtful."""
    if path.stat().st_size > MAX_BYTES:
        raise StrictYamlError(f"{path}: larger than {MAX_BYTES} bytes; this is no mapping file")
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)
    except StrictYamlError as error:
        raise StrictYamlError(f"{path}: {error}") from None
    except yaml.YAMLError as error:
        raise StrictYamlError(f"{path}: not readable as YAML: {error}") from None
    except UnicodeDecodeError as error:
        raise StrictYamlError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from None
