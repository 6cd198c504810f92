// Package azuread is left out.
package azuread

import (
	"errors"
	"net/http"
)

type AzureADConfig struct{}

func NewAzureADRoundTripper(*AzureADConfig, http.RoundTripper) (http.RoundTripper, error) {
	return nil, errors.New("azuread is left out of this Prometheus")
}
