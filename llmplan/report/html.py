"""Pages as one self-contained HTML file: no script, no network, readable in print."""

from llmplan.errors import MissingPartError
from llmplan.report.charts import chart_svg, waterfall_svg
from llmplan.report.page import Page
from llmplan.report.pictures import picture_svg

_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ page.title }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem;
       padding: 0 1rem; color: #1a1a1a; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.2rem; }
dt { color: #666; } dd { margin: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; } th, td { padding: .25rem .8rem; text-align: left; }
th { border-bottom: 2px solid #888; } tr:nth-child(even) td { background: #f4f5f7; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
figure { margin: 1.5rem 0; } svg { max-width: 100%; height: auto; }
li ul { color: #555; list-style: none; padding-left: 1rem; }
footer { color: #666; margin-top: 2rem; }
</style>
</head>
<body>
<h1>{{ page.title }}</h1>
{% if page.facts %}<dl>{% for name, value in page.facts %}
<dt>{{ name }}</dt><dd>{{ value }}</dd>{% endfor %}
</dl>{% endif %}
{% if picture %}<figure>{{ picture }}</figure>{% endif %}
{% for table in tables %}
{% if table.title %}<h2>{{ table.title }}</h2>{% endif %}
<div class="wide"><table>
<thead><tr>{% for column in table.columns %}
<th{% if column.is_number %} class="number"{% endif %}>{{ column.name }}</th>{% endfor %}
</tr></thead>
<tbody>{% for row in table.rows %}
<tr>{% for column, cell in zip(table.columns, row) %}
<td{% if column.is_number %} class="number"{% endif %}>{{ cell }}</td>{% endfor %}</tr>{% endfor %}
</tbody></table></div>
{% endfor %}
{% for drawing in drawings %}<figure>{{ drawing }}</figure>{% endfor %}
{% if page.derivations %}
<h2>{{ page.derivations.title }}</h2>
<ul>{% for name, lines in page.derivations.items %}
<li>{{ name }}<ul>{% for line in lines %}<li>{{ line }}</li>{% endfor %}</ul></li>{% endfor %}
</ul>{% endif %}
{% for remark in page.remarks %}<p>{{ remark }}</p>{% endfor %}
<footer>{% for warning in warnings %}<p>note: {{ warning }}</p>{% endfor %}</footer>
</body>
</html>
"""


def render_html(page: Page, warnings: list[str]) -> str:
    """The page, its charts drawn in, with the remarks of the answer at the foot.

    Raises:
        MissingPartError: The extra ``report`` is not installed.
    """
    try:
        from jinja2 import Environment  # noqa: PLC0415 (an optional part)
        from markupsafe import Markup  # noqa: PLC0415

        drawn = [chart_svg(chart) for chart in page.charts]
        drawn += [waterfall_svg(waterfall) for waterfall in page.waterfalls]
        drawings = [Markup(svg) for svg in drawn]  # noqa: S704 (our own SVG)
    except ImportError as error:
        raise MissingPartError(
            f"HTML needs {error.name}: pip install 'llmplan[report]' installs what it takes."
        ) from None
    environment = Environment(autoescape=True)
    environment.globals["zip"] = zip
    template = environment.from_string(_TEMPLATE)
    picture = Markup(picture_svg(page.picture)) if page.picture else ""  # noqa: S704 (our own SVG)
    tables = (*page.tables, *page.fine_tables)
    told = {"page": page, "picture": picture, "drawings": drawings, "tables": tables}
    return template.render(told, warnings=warnings) + "\n"
