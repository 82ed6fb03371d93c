"""The packages of evloop and who may import whom: `python3 -m tests.house.layout` prints them."""

from __future__ import annotations

from tests.support.sources import MODULES, imports, module_path

# What each package may import, besides itself. The entry points may import anything.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "base": (),
    "system": ("base",),
    "net": ("base", "system"),
    "directory": ("base", "system", "net"),
    "room": ("base", "system", "net"),
    "terminal": ("base", "system"),
    "daemon": ("base", "system", "net", "directory", "room", "terminal"),
    "app": ("base", "system", "net", "directory", "room", "terminal"),
    "irc": ("base", "system", "net", "directory", "room", "terminal", "app"),
}


def package_of(module: str) -> str:
    """`net.tls` -> "net"; framing belongs to base, its path is a promise; "": the entry points."""
    package = "base" if module == "framing" else module.partition(".")[0]
    return package if package in MAY_IMPORT else ""


def edges() -> dict[str, dict[str, int]]:
    """For each package, how many imports of each other package its modules have."""
    found: dict[str, dict[str, int]] = {}
    for module in MODULES:
        mine = found.setdefault(package_of(module), {})
        for name in imports(module_path(module), typing=True):
            other = package_of(name.removeprefix("evloop."))
            if name.startswith("evloop.") and other != package_of(module) and other:
                mine[other] = mine.get(other, 0) + 1
    return found


def main() -> None:
    lines = {name: module_path(name).read_text().count("\n") for name in MODULES}
    for package, others in edges().items():
        mine = [name for name in MODULES if package_of(name) == package]
        label = package or "entry points"
        print(f"{label}: {len(mine)} modules, {sum(lines[name] for name in mine)} lines")
        print("   ", " ".join(name.rpartition(".")[2] for name in mine))
        used = ", ".join(f"{name} ({count})" for name, count in sorted(others.items()))
        print("    imports:", used or "nothing of ours")
    print(f"{len(MODULES)} modules, {sum(lines.values())} lines")


if __name__ == "__main__":
    main()
