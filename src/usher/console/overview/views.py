from django.http import HttpRequest, HttpResponse

from usher.console.access import page
from usher.console.overview import services
from usher.console.overview.drawing import make_chart
from usher.console.pages import render_page


@page()
def overview(request: HttpRequest) -> HttpResponse:
    """``/staff/``. With ``?refresh=off`` the page does not refresh itself."""
    current_overview = services.overview()
    context = {
        "overview": current_overview,
        "chart": make_chart(current_overview.throughput),
        "is_live": request.GET.get("refresh") != "off",
    }
    return render_page(request, "overview", context)
