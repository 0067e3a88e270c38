"""Where `mini-s3` begins."""

from app.starting import imported


def main() -> None:
    """Run the command that the arguments name; ends by SystemExit."""
    imported("app.cli.main").main()


if __name__ == "__main__":
    main()
