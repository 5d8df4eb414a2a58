"""The program `postgate`, also as `python -m postgate`."""

from __future__ import annotations


def main() -> None:
    from app.cli import main as run

    run()


if __name__ == "__main__":
    main()
