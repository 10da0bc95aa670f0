#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

/// The little of AML that describes ISA devices and a PCI host bridge (ACPI Specification 6.4, 20.2 "AML Grammar
/// Definition", 6.4 "Resource Data Types for ACPI"). Each function returns encoded bytes; terms are put together by
/// appending.
namespace viv::firmware::aml {

using Code = std::string;

/// Names are segments of four characters, shorter ones padded with '_'; a path is segments with dots between, from the
/// root.
Code path(std::string_view segments);
Code scope(std::string_view path, const Code& body);
Code device(std::string_view name, const Code& body);
/// A Processor object (as old systems know it) of this number.
Code processor(std::string_view name, uint8_t number);
Code integer(uint32_t value);
/// At most 255 elements.
Code package(const std::vector<Code>& elements);
Code name(std::string_view object, const Code& value);
Code name_integer(std::string_view name, uint32_t value);
/// `id` as "PNP0501".
Code name_eisa_id(std::string_view name, std::string_view id);
/// Name (name, "text").
Code name_text(std::string_view name, std::string_view text);
/// Name (name, ResourceTemplate () { resources }).
Code name_resources(std::string_view name, const Code& resources);

Code io_ports(uint16_t base, uint8_t count);
/// Memory that is read and written, at a fixed address.
Code memory(uint32_t base, uint32_t size);
Code irq(uint8_t number);
/// A global system interrupt that is high as long as its device wants something.
Code level_interrupt(uint32_t number);
/// 8-bit, compatible timing.
Code dma(uint8_t channel);
/// What a host bridge passes on, [first, last]: bus numbers, ports, memory that is not cached.
Code bus_numbers(uint8_t first, uint8_t last);
Code port_window(uint16_t first, uint16_t last);
Code memory_window(uint32_t first, uint32_t last);
Code high_memory_window(uint64_t first, uint64_t last);

}  // namespace viv::firmware::aml
