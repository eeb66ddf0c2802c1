import subprocess
import sys


def test_judging_and_verifying_compile_no_grammar_of_iris() -> None:
    code = (
        "import sys\n"
        "from mlassets.quality.deepchecks_compat import load\n"
        "from resources.verifying import against_schema\n"
        "load(), against_schema({})\n"
        "assert 'jsonschema' in sys.modules and 'rfc3987_syntax' not in sys.modules\n"
        "from jsonschema import FormatChecker\n"
        "import rfc3987_syntax\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
