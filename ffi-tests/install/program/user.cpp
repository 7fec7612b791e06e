// The same through the C++ header.
#include <iostream>
#include <onceflight.hpp>

int main()
{
    onceflight::Table table;
    std::cout << onceflight_version_string() << '\n';
    return table.run("key", [] { return "body"; }).body() == "body" ? 0 : 1;
}
