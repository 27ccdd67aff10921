"""The app: ``python app.py`` serves the page and the API. Settings are ``ORFEAS_*`` variables (`orfeas.settings`)."""

from __future__ import annotations

import sys


def main() -> int:
    from orfeas.engines import zerogpu

    zerogpu.prepare()  # first of all, on a Space

    from orfeas.errors import OrfeasError
    from orfeas.settings import explain_unknown, load_settings
    from orfeas.studio import build_studio
    from orfeas.telemetry import configure_logging, log
    from orfeas.telemetry.sentry import start_reports
    from orfeas.web.serve import serve

    try:
        settings = load_settings()
        configure_logging(settings.log_level, settings.log_format)
        for sentence in explain_unknown():
            log.warning("unknown_setting", problem=sentence)
        end_reports = start_reports(settings.sentry_dsn.get_secret_value(), release=settings.tag)
        try:
            studio = build_studio(settings)
            if zerogpu.is_here():
                studio.load()
            return serve(studio, settings)
        finally:
            end_reports()
    except OrfeasError as error:
        print(f"orfeas: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
