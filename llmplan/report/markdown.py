"""Pages as GitHub-flavoured Markdown."""

from llmplan.report.page import Derivations, Page, Table
from llmplan.report.pictures import PICTURE_WIDTH, picture_text


def render_markdown(page: Page) -> str:
    """The page with a heading, a list of facts, and tables."""
    parts = [f"# {_safe(page.title)}"]
    if page.facts:
        parts.append("\n".join(f"- {_safe(name)}: {_safe(value)}" for name, value in page.facts))
    if page.picture:
        parts.append(f"```text\n{picture_text(page.picture, PICTURE_WIDTH)}\n```")
    parts += [_table(table) for table in page.tables]
    if page.derivations:
        parts.append(_derivations(page.derivations))
    parts += [_safe(remark) for remark in page.remarks]
    return "\n\n".join(parts) + "\n"


def _derivations(derivations: Derivations) -> str:
    lines = [f"## {_safe(derivations.title)}", ""]
    for name, steps in derivations.items:
        lines += [f"- {_safe(name)}", *(f"  - {_safe(step)}" for step in steps)]
    return "\n".join(lines)


def _table(table: Table) -> str:
    head = _row(tuple(column.name for column in table.columns))
    rule = _row(tuple("---:" if column.is_number else "---" for column in table.columns))
    title = [f"## {_safe(table.title)}", ""] if table.title else []
    return "\n".join([*title, head, rule, *map(_row, table.rows)])


def _row(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(map(_safe, cells)) + " |"


def _safe(text: str) -> str:
    """Text that cannot break a table or start markup."""
    for character in "\\|*_`<":
        text = text.replace(character, "\\" + character)
    return text
