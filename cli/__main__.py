"""Where the script `cli/ai-orchestra` enters."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - any python3 of the PATH may come here
    sys.exit("ai-orchestra: needs Python 3.11 or later; this is {}.{}.".format(*sys.version_info))

# The interpreter runs isolated, so the checkout is not on its path yet.
sys.path.insert(0, __file__.rsplit("/", 2)[0])

if __name__ == "__main__":
    try:
        from cli.main import main

        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
