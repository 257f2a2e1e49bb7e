from django.http import HttpRequest, HttpResponse

from usher.console.access import page
from usher.console.overview import services
from usher.console.overview.drawing import chart
from usher.console.pages import show


@page()
def overview(request: HttpRequest) -> HttpResponse:
    """``/staff/``. With ``?refresh=off`` the page does not refresh itself."""
    found = services.overview()
    context = {
        "overview": found,
        "chart": chart(found.throughput),
        "is_live": request.GET.get("refresh") != "off",
    }
    return show(request, "overview", context)
