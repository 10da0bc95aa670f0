# INT 15h AH=53h, and the same for protected mode.

.text
.code16
#define BITS 16
#define L(name) apm16_##name
#include "bios/system/apm_service.inc"
#undef L
#undef BITS

.globl int15_53_power_management
int15_53_power_management:
    call apm16_service
    pushw %bp
    movw %sp, %bp
    jc 1f
    andb $0xFE, 6(%bp)
    popw %bp
    iretw
1:  orb $1, 6(%bp)
    popw %bp
    iretw

apm16_entry:
    call apm16_service
    lretw

.code32
#define BITS 32
#define L(name) apm32_##name
#include "bios/system/apm_service.inc"

apm32_entry:
    call apm32_service
    lret
