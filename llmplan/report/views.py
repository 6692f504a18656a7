"""The page of each result: what is shown, in which order, with which units."""

from functools import singledispatch
from typing import Any

from llmplan.report.calibrate_view import calibrate_page, changes_page, files_page
from llmplan.report.checks_view import validation_page, verify_page
from llmplan.report.counts_view import flops_page, params_page
from llmplan.report.estimate_view import estimate_page
from llmplan.report.explain_view import explain_page
from llmplan.report.fit_view import fit_page
from llmplan.report.hardware_view import hardware_page
from llmplan.report.memory_view import memory_page
from llmplan.report.models_view import compared_page, models_page
from llmplan.report.page import Page
from llmplan.report.place_view import place_page
from llmplan.report.reconcile_view import corrections_page, reconcile_page
from llmplan.results import schema

Inputs = dict[str, Any]


@singledispatch
def page_of(result: object, _inputs: Inputs) -> Page:
    """The page of a result, chosen by its type."""
    raise TypeError(f"no view is registered for {type(result).__name__}")


page_of.register(schema.ModelsResult, models_page)
page_of.register(schema.CompareModelsResult, compared_page)
page_of.register(schema.HardwareResult, hardware_page)
page_of.register(schema.ParamsResult, params_page)
page_of.register(schema.FlopsResult, flops_page)
page_of.register(schema.MemoryResult, memory_page)
page_of.register(schema.FitResult, fit_page)
page_of.register(schema.PlaceResult, place_page)
page_of.register(schema.EstimateResult, estimate_page)
page_of.register(schema.ReconcileResult, reconcile_page)
page_of.register(schema.CorrectionsResult, corrections_page)
page_of.register(schema.VerifyResult, verify_page)
page_of.register(schema.ValidationResult, validation_page)
page_of.register(schema.CalibrateResult, calibrate_page)
page_of.register(schema.CalibrateDiffResult, changes_page)
page_of.register(schema.CalibrateFilesResult, files_page)


@page_of.register
def _explain(result: schema.ExplainResult, inputs: Inputs) -> Page:
    return explain_page(result, inputs["key"])
