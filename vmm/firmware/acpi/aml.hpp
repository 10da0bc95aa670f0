#pragma once

#include <cstdint>
#include <string>
#include <string_view>

/// The little of AML that describes ISA devices (ACPI Specification 6.4, 20.2 "AML Grammar Definition", 6.4.2 "Small
/// Resource Data Type"). Each function returns encoded bytes; terms are put together by appending.
namespace viv::firmware::aml {

using Code = std::string;

/// Names are segments of four characters, shorter ones padded with '_'; a path has one or two of them.
Code scope(std::string_view path, std::string_view inner_path, const Code& body);
Code device(std::string_view name, const Code& body);
/// A Processor object (as old systems know it) of this number.
Code processor(std::string_view name, uint8_t number);
Code name_integer(std::string_view name, uint32_t value);
/// `id` as "PNP0501".
Code name_eisa_id(std::string_view name, std::string_view id);
/// Name (name, ResourceTemplate () { resources }).
Code name_resources(std::string_view name, const Code& resources);

Code io_ports(uint16_t base, uint8_t count);
Code irq(uint8_t number);
/// 8-bit, compatible timing.
Code dma(uint8_t channel);

}  // namespace viv::firmware::aml
