"""The doctor: what is wrong with a schedule, with a scheduler of another library, with a program or a configuration.

    ratewise.doctor.examine(schedule, 10_000)
    ratewise.doctor.examine(torch_scheduler)
    ratewise.doctor.examine_file("train.py")

Nothing is executed and no framework is imported: schedules are looked at over their run, objects are recognised by the
names of their classes, programs are read as text.
"""

from ratewise.doctor.examining import examine as examine, examine_file as examine_file
from ratewise.doctor.finding import Finding as Finding

__all__ = ["Finding", "examine", "examine_file"]
