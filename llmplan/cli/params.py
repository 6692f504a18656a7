"""``llmplan params``."""

from llmplan.cli import options
from llmplan.cli.options import OutputFormat
from llmplan.cli.output import Target, show


def params(
    model: options.Model,
    explain: options.Explain = False,
    format: options.Format = OutputFormat.TABLE,
    output: options.Output = None,
) -> None:
    """Count parameters, exactly.

    Total, active per token, vision, MTP modules and buffers.
    """
    from llmplan.results.params import ParamsQuestion

    show(ParamsQuestion(model=model, explain=explain).ask(), Target(format, output))
