"""A verification as JUnit XML, one test case a check, as continuous integration shows tests."""

from __future__ import annotations

from xml.etree import ElementTree

from reptran_compiler.text import printable

from .verified import Verification

_SUITE = "reptran-verify"


def to_junit(verification: Verification) -> str:
    """The verification as JUnit XML. Characters that XML cannot hold are written as escapes.

    A check of a layer is the test case `layer.NAME` in the class of the Rep network's file, others likewise.
    """
    checks = verification.checks
    suite = ElementTree.Element(
        "testsuite",
        name=_SUITE,
        tests=str(len(checks)),
        failures=str(len(verification.failed)),
        errors="0",
        skipped=str(sum(check.skipped for check in checks)),
        time=f"{verification.seconds:.3f}",
    )
    properties = ElementTree.SubElement(suite, "properties")
    for name in ("original", "rep", "beta", "mode", "version"):
        ElementTree.SubElement(properties, "property", name=name, value=printable(str(getattr(verification, name))))
    for check in checks:
        name = check.name if check.name == check.kind else f"{check.kind}: {check.name}"
        case = ElementTree.SubElement(
            suite, "testcase", classname=printable(f"{_SUITE}.{verification.rep}"), name=printable(name), time="0"
        )
        if check.skipped:
            ElementTree.SubElement(case, "skipped", message=printable(check.detail))
        elif check.failures:
            failure = ElementTree.SubElement(case, "failure", message=printable(check.failures[0]), type=check.kind)
            failure.text = "\n".join(map(printable, check.failures))
        elif check.detail:
            ElementTree.SubElement(case, "system-out").text = printable(check.detail)
    return _document(suite)


def stopped_junit(rep: str, message: str) -> str:
    """What is written where nothing could be verified: one test case that ended with an error."""
    suite = ElementTree.Element("testsuite", name=_SUITE, tests="1", failures="0", errors="1", skipped="0", time="0")
    case = ElementTree.SubElement(suite, "testcase", classname=printable(f"{_SUITE}.{rep}"), name="input", time="0")
    ElementTree.SubElement(case, "error", message=printable(message), type="input").text = printable(message)
    return _document(suite)


def _document(suite: ElementTree.Element) -> str:
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suites, encoding="unicode")
