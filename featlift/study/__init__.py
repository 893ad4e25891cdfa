"""Studies: many extractions and evaluations from one file, with controls, choices made apart from the test, and costs.

Read `plan.py` for what a study is, `running.py` for how it runs, `summary.py` for what comes out.
"""

from featlift.study.plan import Arm, Choice, Cohort, Study, StudyTask
from featlift.study.reading import read_study
from featlift.study.running import run_study
from featlift.study.summary import Summary, read_summary, summarise

__all__ = [
    "Arm",
    "Choice",
    "Cohort",
    "Study",
    "StudyTask",
    "Summary",
    "read_study",
    "read_summary",
    "run_study",
    "summarise",
]
