"""What people look at: one HTML page that opens offline."""

from __future__ import annotations

from vallum.report.page import write_report

__all__ = ["write_report"]
