// What nearly every unit test includes, as vivarium.hpp.
#include "vmm/core/pch/vivarium.hpp"

#include "vmm/core/catch.hpp"
