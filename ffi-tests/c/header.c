/* The header alone, and twice in one program: compiled with and without FIRST, as every C and as C++11. */
#include "onceflight.h"
#include "onceflight.h"

int first(void);

#ifdef FIRST
int first(void)
{
    onceflight_request request = ONCEFLIGHT_REQUEST_INIT;
    onceflight_event event = ONCEFLIGHT_EVENT_INIT;
    return request.timeout_ms == ONCEFLIGHT_FOREVER && request.lease_ms == ONCEFLIGHT_DEFAULT &&
           request.ttl_ms == ONCEFLIGHT_DEFAULT && request.flags == 0 && event.struct_size == sizeof event;
}
#else
int main(void)
{
    onceflight_stats stats = ONCEFLIGHT_STATS_INIT;
    onceflight_lead_info info = ONCEFLIGHT_LEAD_INFO_INIT;
    return first() && stats.struct_size == sizeof stats && info.struct_size == sizeof info &&
                   onceflight_version_number() > 0 ? 0 : 1;
}
#endif
