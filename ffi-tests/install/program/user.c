/* What a user's first program does: lead, complete, replay. */
#include <onceflight.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
    onceflight_options *options = onceflight_options_new();
    onceflight_table *table = NULL;
    onceflight_lead lead = 0;
    onceflight_response *response = NULL;
    int replayed;
    onceflight_options_set_completed_ttl_ms(options, 60000);
    if (onceflight_table_new(options, &table) != ONCEFLIGHT_OK ||
        onceflight_begin(table, (const uint8_t *)"key", 3, 0, &lead, &response) != ONCEFLIGHT_LEAD ||
        onceflight_complete(table, lead, 200, (const uint8_t *)"body", 4) != ONCEFLIGHT_OK)
        return 1;
    replayed = onceflight_begin(table, (const uint8_t *)"key", 3, 0, &lead, &response) == ONCEFLIGHT_REPLAYED &&
               onceflight_response_len(response) == 4 && memcmp(onceflight_response_data(response), "body", 4) == 0;
    onceflight_response_free(response);
    onceflight_table_free(table);
    onceflight_options_free(options);
    printf("%s\n", onceflight_version_string());
    return replayed ? 0 : 1;
}
